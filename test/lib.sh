# shellcheck shell=bash
# Functions that test/run, test/suite, test/demo and test/bench/run share: users (as_root, as_user), the build, the temporary folder that
# everything runs in, and throw-away servers in it. To be sourced, after `set -euo pipefail`.
#
# Nothing here speaks to a server that it has not started: servers live in $work, listen on a Unix socket in $work
# only, and run as a user who owns nothing else.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

say() { printf '== %s\n' "$*"; }
die() {
    printf 'mau: %s\n' "$*" >&2
    exit 1
}

# Whether tests of a kind are asked for; $MAU_ONLY is a list of kinds with commas, or empty for all.
only() { [[ -z ${MAU_ONLY:-} || ,$MAU_ONLY, == *,"$1",* ]]; }

# --- Who does what ---------------------------------------------------------------------------------------------

as_root() {
    if ((EUID == 0)); then
        "$@"
    elif ! command -v sudo >/dev/null; then
        die "this needs root, and there is no sudo: $*"
    elif [[ -t 0 ]]; then
        sudo "$@"
    else
        sudo -n "$@" # nobody is there to type a password
    fi
}

# PostgreSQL refuses to run as root. `nobody` is on every machine and, unlike `postgres`, owns no database.
as_user() {
    if ((EUID == 0)); then
        setpriv --reuid=nobody --regid="$(id -g nobody)" --clear-groups -- "$@"
    else
        "$@"
    fi
}

# --- Build and install -----------------------------------------------------------------------------------------

# A make of our own, not a part of the `make test` that may have called us: it has no job server to share.
our_make() { MAKEFLAGS='' MAKELEVEL='' make -C "$root" --no-print-directory "$@"; }

# Sets pg_config, bindir and pgxs.
find_postgres() {
    pg_config=$(our_make -s print-PG_CONFIG)
    [[ -n $pg_config ]] || die "no PostgreSQL to test with; test/setup installs one"
    bindir=$("$pg_config" --bindir)
    pgxs=$(dirname "$("$pg_config" --pgxs)")/../..
    [[ -x $bindir/postgres && -d $pgxs ]] || die "PG_CONFIG=$pg_config has no server or no PGXS"
}

build() {
    say "build for $("$pg_config" --version)"
    our_make -s -j2 PG_CONFIG="$pg_config" all
}

# Installs what differs from what is installed: a second run needs no root, and a library that somebody's server has
# loaded is replaced (never written into) only by a different one.
install_mau() {
    local stage file
    local -a changed=() writer=(as_root)
    stage=$(mktemp -d "$root/build/stage.XXXXXX")
    our_make -s PG_CONFIG="$pg_config" DESTDIR="$stage" install
    while IFS= read -r file; do
        cmp -s "$stage/$file" "/$file" || changed+=("$file")
    done < <(cd "$stage" && find . -type f | sed 's,^\./,,')
    if ((${#changed[@]})); then
        say "install ${#changed[@]} files into the PostgreSQL of $pg_config"
        [[ -w $("$pg_config" --pkglibdir) && -w $("$pg_config" --sharedir)/extension ]] && writer=()
        for file in "${changed[@]}"; do
            "${writer[@]}" install -D -m "$(stat -c %a "$stage/$file")" "$stage/$file" "/$file"
        done
    fi
    rm -rf "$stage"
}

# From a bare machine to an installed extension.
prepare() {
    "$root/test/setup"
    find_postgres
    build
    install_mau
}

# --- The temporary folder --------------------------------------------------------------------------------------

work=${MAU_WORK:-} # test/suite works in the folder that test/run has made
child=

# Makes $work, owned by the unprivileged user, and sees to it that it goes away with all that runs in it.
make_work() {
    local base
    # The path of a Unix socket holds 107 bytes; the deepest of ours (TAP) are 41 below the base.
    for base in "${TMPDIR:-/tmp}" /tmp; do
        [[ $base == /* ]] && ((${#base} <= 66)) && as_user test -w "$base" -a -x "$base" && break
    done
    trap 'exit 130' INT
    trap 'exit 143' TERM HUP
    trap clean_up EXIT
    work=$(as_user mktemp -d "$base/mau.XXXXXX") || die "cannot make a temporary folder in $base"
    as_user mkdir "$work/tmp"
    export HOME=$work TMPDIR=$work/tmp MAU_WORK=$work
}

# A copy of the checkout that the unprivileged user can read (root's home is closed to others), as $work/tree, and of
# the recorded answers of real homeservers where the machine has them (MAU_FIXTURES may say where), unpacked, as
# $MAU_FIXTURES.
copy_tree() {
    local fixtures=${MAU_FIXTURES:-$root/../shared/fixtures}
    tar -C "$root" --exclude=./.git -c . | as_user tar -C "$work" --one-top-level=tree -x --no-same-owner
    if [[ -d $fixtures ]]; then
        export MAU_FIXTURES=$work/fixtures
        tar -C "$fixtures" --mode=u+w -c . | as_user tar -C "$work" --one-top-level=fixtures -x --no-same-owner
        as_user find "$MAU_FIXTURES" -name '*.gz' -exec gunzip -k {} +
    fi
}

# Runs a command in a process group of its own and waits for it. Bash handles a signal between commands only: `wait`
# is interrupted at once, a command in the foreground would run to its end first. Its input is the file $input.
run_child() {
    local status=0
    set -m
    "$@" <"${input:-/dev/null}" &
    child=$!
    set +m
    wait "$child" || status=$?
    child=
    return "$status"
}

# Every process in $work: servers, and those that a killed test has left behind.
processes_in_work() {
    local p
    for p in /proc/[0-9]*; do
        [[ $(readlink "$p/cwd" 2>/dev/null) == "$work"/* ]] && printf '%s\n' "${p#/proc/}"
    done
    return 0
}

clean_up() {
    local status=$? data
    trap '' INT TERM HUP
    trap - EXIT
    cd /
    [[ -z $child ]] || kill -TERM -- "-$child" 2>/dev/null || true
    while IFS= read -r data; do
        as_user "$bindir/pg_ctl" -D "$data" -m immediate -s stop >/dev/null 2>&1 || true
    done < <(find "$work" -name postmaster.pid -printf '%h\n' 2>/dev/null)
    processes_in_work | xargs -r kill -KILL 2>/dev/null || true
    if [[ -n ${KEEP:-} ]]; then
        say "kept: $work"
    else
        rm -rf "$work"
    fi
    exit "$status"
}

# --- Throw-away servers ----------------------------------------------------------------------------------------

# start_server NAME [FILE…]: a new server in $work/NAME with the settings in the files, the later the stronger. Its data
# are in `data` there, its log is the file `log`, its socket lies beside them; PGHOST, PGUSER, … lead to it afterwards.
start_server() {
    local name=$1 here=$work/$1
    shift
    as_user mkdir "$here"
    as_user "$bindir/initdb" -D "$here/data" -U postgres -A trust --no-locale --encoding=UTF8 --no-sync \
        >"$work/initdb.log" 2>&1 || { cat "$work/initdb.log" >&2; die "initdb failed"; }
    {
        printf "listen_addresses = ''\nunix_socket_directories = '%s'\n" "$here"
        printf "fsync = off\nlog_checkpoints = off\nlog_line_prefix = '%%m [%%p] %%b %%q%%d '\n"
        cat /dev/null "$@"
    } | as_user tee -a "$here/data/postgresql.conf" >/dev/null
    if ! as_user "$bindir/pg_ctl" -D "$here/data" -l "$here/log" -w -t 60 -s start; then
        tail -n 20 "$here/log" >&2 || true
        die "the $name server did not start"
    fi
    export PGHOST=$here PGPORT=5432 PGUSER=postgres PGDATABASE=postgres
}

stop_server() {
    as_user "$bindir/pg_ctl" -D "$work/$1/data" -m fast -w -t 60 -s stop
}

# Nothing of the user's environment may lead a client of ours to a server of theirs.
forget_pg_environment() {
    local name
    for name in "${!PG@}"; do
        [[ $name == PG_CONFIG ]] || unset "$name"
    done
}
