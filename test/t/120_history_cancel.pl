# Questions about a long history can be cancelled at any moment, say how far they are, and need little memory.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time sleep);
use POSIX qw(WNOHANG);

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
$node->start;

# A hundred million users who come on the first and the last day of four years: little to read, much to think about.
# Roaring bytes: cookie 12346, one container, its key, one user less one, where it begins, the user.
$node->safe_psql('postgres', <<'E');
CREATE EXTENSION mau;
UPDATE mau.settings SET history_retention = '100 years';
CREATE FUNCTION roaring(chunk int, place int) RETURNS bytea LANGUAGE sql AS $$
    SELECT '\x3a30000001000000'::bytea || decode(lpad(to_hex(chunk % 256), 2, '0') || lpad(to_hex(chunk / 256), 2, '0') || '000010000000'
        || lpad(to_hex(place % 256), 2, '0') || lpad(to_hex(place / 256), 2, '0'), 'hex') $$;
INSERT INTO mau.active_days (chunk, day, platform, service, users)
    SELECT c, d, 1, 'native', roaring(c, c % 1000) FROM generate_series(0, 1599) c, unnest('{2020-01-01,2022-01-01,2023-12-31}'::date[]) d;
INSERT INTO mau.users (user_no, user_id, registered_at, is_registered)
    SELECT c::bigint * 65536 + c % 1000, '@' || c || ':x', 1577836800000 + c::bigint * 80000000, true FROM generate_series(0, 1599) c;
ANALYZE;
E
is($node->safe_psql('postgres', q{SELECT dau FROM mau.daily_series('2022-01-01', '2022-01-01')}), 1600, 'they are there');

my %questions = (
    daily_series => q{SELECT count(*) FROM mau.daily_series('2020-01-01', '2023-12-31', min_days => 2, window_days => 1000)},
    growth => q{SELECT count(*) FROM mau.growth('2020-01-01', '2023-12-31', window_days => 500)},
    r30v2_series => q{SELECT count(*) FROM mau.r30v2_series('2020-01-01', '2023-12-31')},
    retention => q{SELECT count(*) FROM mau.retention('day', '2020-01-01', '2022-12-31', at => '2024-01-01')},
    billing_months => q{SELECT count(*) FROM mau.billing_months('2020-01-01', '2023-12-31', at => '2024-01-01')},
    days_active => q{SELECT count(*) FROM mau.days_active('2024-01-01', '1500 days')},
);

# Each takes seconds, or is asked so often that it does.
for my $name (sort keys %questions) {
    my $again = join(';', ($questions{$name}) x 100);
    my $start = time;
    my ($code, $out, $err) = $node->psql('postgres', "SET statement_timeout = 100; $again", on_error_stop => 1);
    my $took = time - $start;
    like($err, qr/canceling statement due to statement timeout/, "$name is cancelled");
    cmp_ok($took, '<', 20, "... soon ($took s)");
}

# Runs a script and answers what it wrote to stderr, and the most memory of its own that the backend had meanwhile, in
# KB, where the system has the figure. `slow`: the backend is made to take more than three seconds, by being stopped while it is at it.
sub watch {
    my ($script, $slow) = @_;
    my $dir = PostgreSQL::Test::Utils::tempdir;
    my $child = fork();
    if (!$child) {
        my ($code, $out, $err) = $node->psql('postgres', "SELECT pg_backend_pid() \\g $dir/pid\n$script", on_error_stop => 0);
        append_to_file("$dir/err", $err);
        POSIX::_exit(0);
    }
    my $most = 0;
    while (waitpid($child, WNOHANG) == 0) {
        sleep 0.01;
        my $pid = -s "$dir/pid" ? slurp_file("$dir/pid") =~ /^\s*(\d+)\s*$/m && $1 : next;
        open(my $status, '<', "/proc/$pid/status") or next;
        if ($slow && $node->poll_query_until('postgres', "SELECT state = 'active' AND query LIKE '%$slow%' FROM pg_stat_activity WHERE pid = $pid")) {
            kill 'STOP', $pid;
            sleep 3.5;
            kill 'CONT', $pid;
            $slow = undef;
        }
        my ($kilobytes) = map { /^RssAnon:\s+(\d+)/ ? $1 : () } <$status>;
        $most = $kilobytes if defined $kilobytes && $kilobytes > $most;
    }
    return (slurp_file("$dir/err"), $most);
}

my ($said) = watch("$questions{billing_months};", 'billing_months');
my $notices = () = $said =~ /NOTICE:  mau has read the history of \d+ of 1600 chunks of users/g;
cmp_ok($notices, '>=', 1, "who waits is told how far it is ($notices times)");

# The memory for one chunk serves all: a second chunk shows it.
my $longest = join(' ', map { "SELECT count(*) FROM mau.$_;" }
    q{daily_series('2015-01-01', '2026-12-31', min_days => 1, window_days => 1000)},
    q{daily_series('2015-01-01', '2026-12-31', min_days => 2, window_days => 1000)},
    q{growth('2015-01-01', '2026-12-31', window_days => 1000)}, q{r30v2_series('2015-01-01', '2026-12-31')},
    q{retention('day', '2020-01-01', '2022-12-31', at => '2024-01-01')}, q{days_active('2026-12-31', '12 years')},
    q{billing_months('2015-01-01', '2026-12-31')});
my ($errors, $kilobytes) = watch("SET statement_timeout = 1000; $longest");
SKIP: {
    skip 'no /proc to look into', 1 unless $kilobytes;
    cmp_ok($kilobytes, '<', 64 * 1024, "twelve years in windows of a thousand days need $kilobytes KB");
}
unlike($errors, qr/ERROR:  (?!canceling)/, '... and do not fail');

done_testing();
