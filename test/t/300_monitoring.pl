# share/monitoring: every query of the dashboard on a year of 100 000 users, with the rights of monitoring; the exporters, the alerts and every
# PromQL expression in a real Prometheus. What a missing program would do is skipped.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use File::Copy qw(copy);
use File::Temp qw(tempdir);
use JSON::PP ();
use MauClient;
use MauPopulation;
use MauPrometheus;
use POSIX qw(strftime);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $files = "$FindBin::RealBin/../../share/monitoring";
my $here = tempdir(CLEANUP => 1);
my ($users, $days) = (100_000, 365);

# --- The server --------------------------------------------------------------------------------------------------

my $node = PostgreSQL::Test::Cluster->new('monitoring');
$node->init(extra => ['--locale=C', '--encoding=UTF8']);
$node->append_conf('postgresql.conf', "shared_preload_libraries = 'mau'\nmau.worker = off\nautovacuum = off\nshared_buffers = '128MB'\n");
$node->start;
$node->safe_psql('postgres', 'CREATE DATABASE homeserver; CREATE ROLE prometheus LOGIN');
sub sql { return $node->safe_psql('homeserver', $_[0]) }

sql(q{CREATE EXTENSION mau; SELECT mau.grant_to('prometheus', 'monitoring')});
sql(population_sql($users, $days));
sql(q{CREATE TABLE users (name text UNIQUE, creation_ts bigint, is_guest smallint NOT NULL DEFAULT 0, appservice_id text, user_type text, deactivated smallint NOT NULL DEFAULT 0);
	CREATE TABLE user_ips (user_id text NOT NULL, user_agent text NOT NULL DEFAULT '', last_seen bigint NOT NULL);
	CREATE INDEX user_ips_last_seen_only ON user_ips (last_seen);
	CREATE TABLE user_threepids (user_id text NOT NULL, medium text NOT NULL, address text NOT NULL);
	INSERT INTO users (name, creation_ts, appservice_id) SELECT user_id, registered_at / 1000, appservice_id FROM mau.users;
	INSERT INTO user_ips (user_id, last_seen) SELECT user_id, "timestamp" FROM mau.monthly_active_users ORDER BY "timestamp" DESC LIMIT 1;
	UPDATE mau.settings SET track_appservice_user_ips = true});
sql(q{SELECT mau.attach('synapse')});
# A snapshot every 5 minutes for a year.
sql(qq{INSERT INTO mau.snapshots (at, dau, wau, mau, by_service, daily_active_users, accounts_by_service, daily_by_service, weekly_by_service)
	SELECT now() - n * interval '5 min', 1, 2, 3, '{"native": 3, "irc-bridge": 1}', 1, '{"native": 5, "irc-bridge": 1}', '{"native": 1}', '{"native": 2}'
	FROM generate_series(1, 12 * 24 * $days) n});
# The limit is some days ahead.
my $limit = 1000 + sql('SELECT mau.monthly_active_count()');
sql("UPDATE mau.settings SET limit_usage_by_mau = true, max_mau_value = $limit");
sql("SELECT mau.$_()") for qw(sync reap fold);
# Rows that arrive behind the reading position, which the next reconcile finds.
sql(q{INSERT INTO user_ips (user_id, last_seen) SELECT name, extract(epoch FROM now() - interval '20 days')::int8 * 1000 FROM users
	WHERE name NOT IN (SELECT user_id FROM mau.monthly_active_users) AND appservice_id IS NULL ORDER BY name LIMIT 7});
sql("SELECT mau.$_()") for qw(reconcile refresh);
sql('VACUUM ANALYZE');
is(sql('SELECT health FROM mau.health()'), 'ok', 'mau is well');
my $samples = 'SELECT name, labels, value FROM mau.samples()';

# --- The dashboard -----------------------------------------------------------------------------------------------

my $dashboard = JSON::PP::decode_json(slurp_file("$files/grafana-dashboard.json"));
my @panels = grep { $_->{type} ne 'row' } @{ $dashboard->{panels} };
my @targets = map { my $panel = $_; map { { %$_, title => $panel->{title}, panel => $panel->{type} } } @{ $panel->{targets} } } @panels;

subtest 'the dashboard' => sub {
	my %variables = map { ($_->{name} => $_) } @{ $dashboard->{templating}{list} };
	is(join(' ', map { "$_->{type}:$_->{query}" } @variables{qw(postgres prometheus)}),
		'datasource:grafana-postgresql-datasource datasource:prometheus', 'both data sources are variables');
	my (%ids, %place);
	for my $panel (@{ $dashboard->{panels} })
	{
		ok(!$ids{ $panel->{id} }++, "panel $panel->{id} has a number of its own");
		my $at = $panel->{gridPos};
		ok(!(grep { $place{$_}++ } map { my $y = $_; map { "$_,$y" } $at->{x} .. $at->{x} + $at->{w} - 1 } $at->{y} .. $at->{y} + $at->{h} - 1), "and a place: $panel->{title}");
		cmp_ok($at->{x} + $at->{w}, '<=', 24, 'within the width');
	}
	for my $target (@targets)
	{
		my ($type, $uid) = @{ $target->{datasource} }{qw(type uid)};
		my $query = $target->{rawSql} // $target->{expr};
		like("$type $uid", qr/^(grafana-postgresql-datasource \$\{postgres\}|prometheus \$\{prometheus\})$/, "$target->{title}: source");
		my @unknown = grep { !$variables{$_} && !/^__/ } $query =~ /\$\{?(\w+)/g;
		is("@unknown", '', 'every variable is declared');
	}
};

# A query as Grafana sends it, for the last year.
sub expand
{
	my ($query) = @_;
	my ($from, $to) = map { "'" . strftime('%Y-%m-%dT%H:%M:%SZ', gmtime $_) . "'" } sql('SELECT extract(epoch FROM now())::int8') - $days * 86400,
	  sql('SELECT extract(epoch FROM now())::int8');
	$query =~ s/\$__timeFrom\(\)/$from/g;
	$query =~ s/\$__timeTo\(\)/$to/g;
	$query =~ s/\$\{service:sqlstring\}/'native'/g;
	die "a macro is left in $query" if $query =~ /\$/;
	return $query;
}

# What a panel's query returns for the role of monitoring, in a session that has asked mau before, as those of Grafana have; the errors, and the
# milliseconds.
sub ask_panel
{
	my ($query) = @_;
	my ($rc, $out, $err) = $node->psql('homeserver', "SET statement_timeout = '5s'; SELECT FROM mau.health();\n\\timing on\n$query",
		extra_params => [ '-U', 'prometheus' ]);
	my $ms = $out =~ s/\n?Time: ([0-9.]+) ms.*\z//s ? $1 : 0;
	return ($out, $err, $ms);
}

subtest 'every panel of PostgreSQL' => sub {
	my %rows;
	for my $target (grep { $_->{rawSql} } @targets)
	{
		my ($out, $err, $ms) = ask_panel(expand($target->{rawSql}));
		is($err, '', "$target->{title}: no error");
		my @rows = split /\n/, $out;
		cmp_ok(scalar @rows, '>', 0, 'it has rows');
		note sprintf '%8.1f ms, %4d rows: %s (%s)', $ms, scalar @rows, $target->{title}, $target->{panel};
		$rows{ $target->{title} } //= \@rows;
		if ($target->{format} eq 'time_series')
		{
			like($target->{rawSql}, qr/ AS "time"/, 'a series has times');
			like($rows[0], qr/^\d{4}-\d\d-\d\d /, 'in its first column');
			is(join("\n", sort @rows), join("\n", @rows), 'in order');
		}
	}
	my ($variable) = grep { $_->{name} eq 'service' } @{ $dashboard->{templating}{list} };
	is((ask_panel($variable->{query}))[0], "native\nirc-bridge", 'the services to choose from');

	my $members = sql(q{SELECT count(*) FROM mau.monthly_active_users WHERE service = 'native'});
	is($rows{'Monthly active users'}[0], $members, 'the figure is that of the table');
	is($rows{'Limit'}[0], $limit, 'so is the limit');
	is(scalar @{ $rows{'Active users of each day, 7 days and 30 days'} }, $days, 'a point for each day but today');
	# The number of users stands in a bitmap's bytes, less one; a user has one client here.
	is((split /\|/, $rows{'Active users of each day, 7 days and 30 days'}[-1])[1],
		sql(q{SELECT sum(get_byte(users, 10) + 256 * get_byte(users, 11) + 1) FROM mau.active_days WHERE service = 'native' AND day = (now() AT TIME ZONE 'UTC')::date - 1}),
		'whose users are those of the bitmaps');
	like($rows{'Members by service'}[0], qr/^native\|\d+\|\d+\|$members\|95000$/, 'the members by service');
	is(scalar @{ $rows{'Bill of each month'} }, 24, 'twelve months of two services');
	cmp_ok(scalar @{ $rows{'Retention by month of registration'} }, '>=', 12, 'twelve months of registrations');
	is($rows{'Health'}[0], 'ok', 'health');
};

# --- Prometheus ----------------------------------------------------------------------------------------------------

SKIP: {
	skip 'promtool is not installed', 1 unless has_program('promtool');
	subtest 'promtool' => sub {
		copy("$files/$_", $here) for qw(alerts.yml alerts_test.yml prometheus.yml);
		for my $check ([qw(check rules alerts.yml)], [qw(test rules alerts_test.yml)], [qw(check config prometheus.yml)])
		{
			my $out = `cd '$here' && promtool @$check 2>&1`;
			is($?, 0, "promtool @$check") or diag $out;
		}
		my $in = "$here/metrics.txt";
		append_to_file($in, sql('SELECT mau.metrics()') . "\n");
		my $out = `promtool check metrics <'$in' 2>&1`;
		# Synapse's names are as they are.
		is(join("\n", grep { !/^synapse_/ } split /\n/, $out), '', 'promtool check metrics on mau.metrics()');
		my %tested = map { ($_ => 1) } slurp_file("$files/alerts_test.yml") =~ /^      - alertname: (\w+)/mg;
		is(join(' ', sort keys %tested), join(' ', sort(slurp_file("$files/alerts.yml") =~ /- alert: (\w+)/g)), 'every alert has a test in which it fires');
	};
}

# The ways that the series can come, as jobs of prometheus.yml.
my $connection = 'host=' . $node->host . ' port=' . $node->port;
my %way = (mau => { port => free_port(), path => 'localhost:9188' });
start_program("$here/serve.log",
	command => [ mau_program(), 'serve', '-d', "$connection user=prometheus dbname=homeserver", '--listen', "127.0.0.1:$way{mau}{port}" ]);
if (has_program('prometheus-postgres-exporter'))
{
	$way{mau_postgres_exporter} = { port => free_port(), path => 'localhost:9187' };
	start_program("$here/postgres_exporter.log",
		env => { DATA_SOURCE_NAME => "user=prometheus dbname=homeserver sslmode=disable $connection" },
		command => [ 'prometheus-postgres-exporter', '--disable-default-metrics', '--disable-settings-metrics',
			"--extend.query-path=$files/postgres_exporter.yaml", "--web.listen-address=127.0.0.1:$way{mau_postgres_exporter}{port}" ]);
}
if (has_program('prometheus-sql-exporter'))
{
	$way{mau_sql_exporter} = { port => free_port(), path => 'localhost:9237' };
	my $config = slurp_file("$files/sql_exporter.yml");
	my ($host, $port) = ($node->host, $node->port);
	$config =~ s/host=[^&]*/host=$host&port=$port/ or die;
	$config =~ s/interval: \d+s/interval: 1s/ or die;
	append_to_file("$here/sql_exporter.yml", $config);
	start_program("$here/sql_exporter.log",
		command => [ 'prometheus-sql-exporter', '-config.file', "$here/sql_exporter.yml", '-web.listen-address', "127.0.0.1:$way{mau_sql_exporter}{port}" ]);
}

for my $job (qw(mau_postgres_exporter mau_sql_exporter))
{
	SKIP: {
		(my $program = $job) =~ s/mau_(\w+)_exporter/prometheus-$1-exporter/;
		skip "$program is not installed", 1 unless $way{$job};
		ok(wait_for(sub { (http_text("http://127.0.0.1:$way{$job}{port}/metrics") // '') =~ /limit_users/ }), "$program serves mau's series")
		  or diag slurp_file($job =~ /postgres/ ? "$here/postgres_exporter.log" : "$here/sql_exporter.log");
	}
}

SKIP: {
	skip 'prometheus is not installed', 1 unless has_program('prometheus');
	subtest 'Prometheus' => sub { prometheus() };
}

# The series that change while nothing happens.
sub is_steady { return $_[0] !~ /^mau_(snapshot_age|source_lag)_seconds/ }

sub prometheus
{
	my $port = free_port();
	my $config = slurp_file("$files/prometheus.yml");
	for my $job (values %way) { $config =~ s/\Q$job->{path}\E/127.0.0.1:$job->{port}/ or die }
	# Jobs of programs that are not here.
	$config =~ s/  - job_name: \w+\n(?:(?!  #|  - job_name).*\n)*?.*localhost:.*\n(?:(?!  #|  - job_name).*\n)*//g;
	mkdir "$here/prometheus";
	append_to_file("$here/prometheus/prometheus.yml", "global: {scrape_interval: 1s, evaluation_interval: 1s}\n$config");
	copy("$files/alerts.yml", "$here/prometheus");
	start_program("$here/prometheus.log",
		command => [ 'prometheus', "--config.file=$here/prometheus/prometheus.yml", "--storage.tsdb.path=$here/prometheus/data", "--web.listen-address=127.0.0.1:$port" ]);
	my $jobs = keys %way;
	ok(wait_for(sub { my $up = eval { series_of($port, 'count(count_over_time(mau_limit_users[1m]) >= 3)') }; $up && ($up->{'{}'} // 0) == $jobs }),
		"$jobs ways into Prometheus") or diag slurp_file("$here/prometheus.log");

	my %expected = map { my ($name, $labels, $value) = split /\|/; ($name . JSON::PP->new->canonical->encode(JSON::PP::decode_json($labels)) => $value) }
	  split /\n/, sql($samples);
	cmp_ok(scalar keys %expected, '>', 40, 'there are series');
	for my $job (sort keys %way)
	{
		# Those of `mau serve` itself are no series of mau.samples().
		my $series = series_of($port, qq({__name__=~"(mau|synapse)_.*", __name__!~"mau_target_.*", job="$job"}));
		is(join("\n", sort keys %$series), join("\n", sort keys %expected), "$job: the names and labels are those of mau.samples()");
		my @wrong = grep { is_steady($_) && $series->{$_} != $expected{$_} } sort keys %expected;
		is("@wrong", '', 'so are the values');
		# Prometheus may have asked before that, or since.
		my @late = grep { !is_steady($_) && !($series->{$_} >= 0 && abs($series->{$_} - $expected{$_}) < 600) } sort keys %expected;
		is("@late", '', 'and the ages');
	}

	my @instances = map { "127.0.0.1:$_->{port}" } map { $way{$_} } sort keys %way;
	for my $target (grep { $_->{expr} } @targets)
	{
		for my $instance (@instances)
		{
			(my $query = $target->{expr}) =~ s/\$instance/$instance/g;
			$query =~ s/\$__rate_interval/10s/g;
			cmp_ok(scalar(keys %{ series_of($port, $query) }), '>', 0, "$target->{title}: $target->{expr} ($instance)");
		}
	}

	my %states;
	my $evaluated = sub {
		my @rules = map { @{ $_->{rules} } } @{ prometheus_get($port, 'rules')->{groups} };
		%states = map { ($_->{name} => { state => $_->{state}, health => $_->{health}, error => $_->{lastError}, query => $_->{query}, alerts => $_->{alerts} }) } @rules;
		return @rules && !grep { $_->{health} eq 'unknown' } @rules;
	};
	ok(wait_for($evaluated), 'the alerts are evaluated');
	for my $name (sort keys %states)
	{
		is($states{$name}{health} . ($states{$name}{error} // ''), 'ok', "$name: no error");
		for my $metric ($states{$name}{query} =~ /\b(mau_\w+|synapse_\w+)/g)
		{
			cmp_ok(scalar(keys %{ series_of($port, $metric) }), '>', 0, "it asks for $metric, which is there");
		}
	}
	my $active = sub { return join ' ', map { "$_:$states{$_}{state}" } grep { $states{$_}{state} ne 'inactive' } sort keys %states };
	# More than 90 % are taken, and the last reconcile found something.
	SKIP: {
		skip 'the clock of the server is not that of Prometheus', 1 if $ENV{MAU_CLOCK};
		is($active->(), 'MauLimitForecast:pending MauNearLimit:pending MauReconcileDifferences:firing', 'the alerts of this server');
		is($states{MauReconcileDifferences}{alerts}[0]{annotations}{summary}, 'The last mau.reconcile() found 7 users with activity that mau had missed', 'with its figure');
	}
	sql('UPDATE mau.settings SET max_mau_value = 100');
	ok(wait_for(sub { $evaluated->() && @{ $states{MauLimitReached}{alerts} } == keys %way }), 'a full server alerts, by every way');
}

$node->stop;
done_testing();
