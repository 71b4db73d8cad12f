#!/usr/bin/env bash
# What the history's questions cost (part h of make bench); the program says what it does.
exec build/test/history_bench
