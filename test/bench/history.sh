#!/usr/bin/env bash
# The cost of the history's questions (part h of make bench); the program's head describes it.
exec build/test/history_bench
