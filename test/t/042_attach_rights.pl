# The homeserver's tables are read with the right role (rule R10): attach and sync need SELECT on the tables that they read and nothing
# more. Every caller, a superuser or the worker included, reads with the rights of the role that attached, of the tables' owner, or of no
# role that could do harm. The homeserver's role here is hostile: its views and policies try to do what only others may.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";

use MauSource;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = source_cluster('rights');

sub sql { my ($database, $sql) = @_; $node->safe_psql($database, $sql); return; }
sub one { my ($database, $sql) = @_; return scalar ask($node, $database, $sql); }

# As another role. Sessions of that role, not SET ROLE, which leaves a way back.
sub as { my ($role) = @_; return (extra_params => [ '-U', $role ]); }

sub attach_as
{
	my ($role, $database, $schema) = @_;
	my ($out, $err) = ask($node, $database, "\\set VERBOSITY verbose\nSELECT * FROM mau.attach('synapse', '" . ($schema // 'public') . "', @{[at($NOW)]})", as($role));
	return ($out, $err);
}

sub sync_as
{
	my ($role, $database, $ms) = @_;
	return ask($node, $database, "\\set VERBOSITY verbose\nSELECT * FROM mau.sync(@{[at($ms // $NOW)]})", as($role));
}

# The rights on mau that a role needs to run it by hand.
sub operator
{
	my ($database, @roles) = @_;
	sql($database, qq{
GRANT USAGE ON SCHEMA mau TO $_;
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA mau TO $_;
GRANT USAGE ON ALL SEQUENCES IN SCHEMA mau TO $_;
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA mau TO $_;}) for @roles;
	return;
}

sql('postgres', 'CREATE ROLE synapse LOGIN; CREATE ROLE reader LOGIN; CREATE ROLE "Odd Reader" LOGIN; CREATE ROLE other LOGIN; CREATE ROLE nobody_special LOGIN');

# A homeserver whose tables belong to role synapse, in schema hs.
sub homeserver
{
	my ($name) = @_;
	my $d = new_homeserver($node, name => $name, schema => 'hs');
	sql($d, add_user('@a:x', schema => 'hs') . see('@a:x', $NOW, schema => 'hs')
		  . "INSERT INTO hs.user_threepids VALUES ('\@a:x', 'email', 'a\@x', 0, 0);"
		  . 'ALTER SCHEMA hs OWNER TO synapse; ' . join '', map { "ALTER TABLE hs.$_ OWNER TO synapse;" } qw(users user_ips user_threepids));
	operator($d, 'reader', '"Odd Reader"', 'other');
	return $d;
}

# --- No more than SELECT ----------------------------------------------------------------------------------------

sub select_suffices
{
	my %columns = (
		users          => 'name, creation_ts, is_guest, appservice_id, user_type, deactivated',
		user_ips       => 'user_id, user_agent, last_seen',
		user_threepids => 'user_id, medium, address');
	for my $grants (
		[ tables  => join '', map { "GRANT SELECT ON hs.$_ TO reader;" } sort keys %columns ],
		[ columns => join '', map { "GRANT SELECT ($columns{$_}) ON hs.$_ TO reader;" } sort keys %columns ])
	{
		my $d = homeserver("select_on_$grants->[0]");
		sql($d, "GRANT USAGE ON SCHEMA hs TO reader; $grants->[1]");
		my ($out, $err) = attach_as('reader', $d, 'hs');
		is($err, '', "$d: attached with SELECT only");
		is(members($node, $d), "\@a:x|native|$NOW", "$d: the cohort is there");
		is(one($d, 'SELECT attached_by FROM mau.source'), 'reader', "$d: mau remembers who attached");
		for my $syncer ('reader', $ENV{PGUSER} // one($d, 'SELECT current_user'))
		{
			my $t = one($d, 'SELECT max(last_seen) FROM hs.user_ips') + 7200000;
			sql($d, "UPDATE hs.users SET user_type = 'by $syncer';" . see('@a:x', $t, schema => 'hs') . see("\@new_$syncer:x", $t, schema => 'hs'));
			($out, $err) = sync_as($syncer, $d, $t);
			is($err, '', "$d: $syncer syncs");
			like($out, qr/^users\|1\n.*^joined\|1\n.*^refreshed\|1\b/ms, "$d: $syncer reads what is new and what has changed");
			is(one($d, q{SELECT user_type FROM mau.users WHERE user_id = '@a:x'}), "by $syncer", "$d: $syncer sees the change");
		}
		my $newest = one($d, 'SELECT max(last_seen) FROM hs.user_ips');
		like(one($d, "SELECT mau.usage_statistics(@{[at($newest)]})"), qr/"total_users": 1\b/, "$d: usage statistics");
		my ($usage, $usage_err) = ask($node, $d, "SELECT mau.usage_statistics(@{[at($newest)]}) ->> 'total_users'", as('reader'));
		is("$usage$usage_err", '1', "$d: usage statistics for the reader");
	}
	return;
}

# The hint of a refusal is the remedy, and gives away no more than is needed.
sub hints
{
	my $d = homeserver('hints');
	for my $role ('reader', 'Odd Reader')
	{
		my $name = $role eq 'reader' ? 'reader' : qq{"$role"};
		my @hints;
		for my $try (1 .. 4)
		{
			my ($out, $err) = attach_as($role, $d, 'hs');
			last if $err eq '';
			like($err, qr/^psql:.*ERROR:  42501: /m, "hints: $role may not read: 42501");
			is(one($d, 'SELECT count(*) FROM mau.source') . one($d, 'SELECT count(*) FROM mau.users'), '00', "hints: $role: nothing has changed");
			my ($hint) = $err =~ /^HINT:  (GRANT .*;)$/m or last;
			push @hints, $hint;
			sql($d, $hint);
		}
		is(one($d, 'SELECT attached_by FROM mau.source'), $role, "hints: $role: after what the hint says it is attached") or diag explain \@hints;
		cmp_ok(scalar @hints, '<=', 1, "hints: $role: one hint says it all");
		is(one($d, "SELECT has_column_privilege('$role', 'hs.users', 'password_hash', 'SELECT') OR has_column_privilege('$role', 'hs.user_ips', 'access_token', 'SELECT')
			OR has_column_privilege('$role', 'hs.user_ips', 'ip', 'SELECT')"), 'f', "hints: $role: passwords, tokens and addresses stay closed");
		sql($d, "UPDATE hs.users SET user_type = 'by $role'");
		my ($out, $err) = sync_as($role, $d);
		like($out, qr/^users\|1\b/m, "hints: $role: sync finds a changed user");
		is($err, '', "hints: $role: without trouble");
		my ($plans) = plans_of($d, $role);
		unlike($plans, qr/Seq Scan on (?:hs\.)?users/, "hints: $role: by changed pages, the grants suffice for that");
		sql($d, 'SELECT mau.detach(); TRUNCATE mau.users, mau.user_threepids, mau.monthly_active_users; UPDATE hs.users SET user_type = NULL');
	}
	my ($out, $err) = attach_as('nobody_special', $d, 'hs');
	like($err, qr/permission denied/, 'hints: nobody may execute attach without being granted that');
	for my $function ("attach('synapse')", 'sync()', 'detach()')
	{
		($out, $err) = ask($node, $d, "SELECT * FROM mau.$function", as('nobody_special'));
		like($err, qr/permission denied/, "hints: nor $function");
	}
	return;
}

sub plans_of
{
	my ($d, $role) = @_;
	my ($out, $err) = ask($node, $d, qq{
LOAD 'auto_explain';
SET auto_explain.log_min_duration = 0;
SET auto_explain.log_nested_statements = on;
SET auto_explain.log_level = notice;
GRANT "$role" TO CURRENT_USER;
SELECT * FROM mau.sync(@{[at($NOW)]});});
	return $err;
}

# --- Each with the right rights ---------------------------------------------------------------------------------

sub own_rights
{
	my $d = homeserver('own_rights');
	sql($d, 'GRANT USAGE ON SCHEMA hs TO reader; GRANT SELECT ON ALL TABLES IN SCHEMA hs TO reader');
	attach_as('reader', $d, 'hs');
	sql($d, see('@b:x', $NOW, schema => 'hs') . add_user('@c:x', schema => 'hs'));
	my ($out, $err) = sync_as('other', $d);
	like($out, qr/^trouble\|1\b/m, 'own rights: one who may not read them does not, whoever attached');
	like($err, qr/WARNING:.*permission denied/, 'own rights: and is told');
	is(one($d, 'SELECT trouble_sqlstate FROM mau.source'), '42501', 'own rights: it is noted');
	is(one($d, 'SELECT count(*) FROM mau.users'), 1, 'own rights: nothing was read');
	($out, $err) = ask($node, $d, 'SELECT mau.usage_statistics()', as('other'));
	like($err, qr/permission denied/, 'own rights: nor the usage statistics');
	sql($d, 'GRANT USAGE ON SCHEMA hs TO other; GRANT SELECT ON ALL TABLES IN SCHEMA hs TO other; REVOKE ALL ON ALL TABLES IN SCHEMA hs FROM reader');
	($out, $err) = sync_as('other', $d);
	is($err, '', 'own rights: one who may does');
	like($out, qr/^users\|1\n.*^joined\|1\b/ms, 'own rights: and finds what is new');
	is(one($d, 'SELECT trouble IS NULL FROM mau.source'), 't', 'own rights: the trouble is over');
	my $done = sync($node, $d, $NOW);
	is($done->{trouble}, 1, 'own rights: a superuser reads with the rights of who attached, who has none any more');

	# The role that attached was dropped.
	sql($d, 'SELECT mau.detach(); CREATE ROLE shortlived LOGIN; GRANT USAGE ON SCHEMA hs TO shortlived; GRANT SELECT ON ALL TABLES IN SCHEMA hs TO shortlived');
	operator($d, 'shortlived');
	attach_as('shortlived', $d, 'hs');
	sql($d, 'DROP OWNED BY shortlived; DROP ROLE shortlived');
	$done = sync($node, $d, $NOW);
	is($done->{trouble}, 1, 'own rights: the role that attached was dropped: trouble');
	like($done->{warning}, qr/role "shortlived", who attached, does not exist/, 'own rights: which says what it is');
	is(one($d, 'SELECT trouble_sqlstate FROM mau.source'), '42704', 'own rights: and is noted');
	sql($d, 'SELECT mau.detach()');
	is(attach($node, $d, $NOW, 'hs')->{error}, undef, 'own rights: detached and attached by another it goes on');
	is(sync($node, $d, $NOW)->{trouble}, undef, 'own rights: without trouble');

	# No role can name another one.
	sql($d, 'SELECT mau.detach()');
	for my $statement (
		"INSERT INTO mau.source (kind, schema_name, attached_by) VALUES ('synapse', 'hs', 'postgres')",
		"INSERT INTO mau.source (kind, schema_name, attached_by) VALUES ('synapse', 'hs', '@{[one($d, 'SELECT current_user')]}')")
	{
		($out, $err) = ask($node, $d, "\\set VERBOSITY verbose\n$statement", as('other'));
		like($err, qr/ERROR:  42501: attached_by must be the current role/, 'own rights: nobody attaches in the name of another');
	}
	attach($node, $d, $NOW, 'hs');
	for my $change ("schema_name = 'evil'", "kind = 'custom'", q{queries = '{"activity": "SELECT 1"}'})
	{
		($out, $err) = ask($node, $d, "\\set VERBOSITY verbose\nUPDATE mau.source SET $change", as('other'));
		like($err, qr/ERROR:  42501: attached_by must be the current role/, "own rights: nor leads another's reading elsewhere: $change");
	}
	($out, $err) = ask($node, $d, 'UPDATE mau.source SET activity_until = activity_until - 1, trouble = NULL', as('other'));
	is($err, '', 'own rights: one may note progress');
	($out, $err) = ask($node, $d, "UPDATE mau.source SET attached_by = 'other'", as('other'));
	is($err, '', 'own rights: one may put the own name');
	($out, $err) = ask($node, $d, "UPDATE mau.source SET attached_by = 'synapse'");
	is($err, '', 'own rights: a superuser may name anybody');
	return;
}

# --- Hostile tables ---------------------------------------------------------------------------------------------

# Everything that a function of the homeserver's tries when its tables are read. It notes who it is and what it could do, and leaves
# traps for the statements after it.
my $hostile = q{
CREATE TABLE hs.diary (who name, what text);
GRANT ALL ON hs.diary TO PUBLIC;
CREATE SCHEMA trap;
GRANT ALL ON SCHEMA trap TO PUBLIC;
CREATE FUNCTION trap.sprung(what text) RETURNS void LANGUAGE plpgsql AS $$BEGIN
	INSERT INTO hs.diary VALUES (current_user, 'trap: ' || what);
END$$;
CREATE FUNCTION trap.unnest(v text[]) RETURNS SETOF text LANGUAGE plpgsql AS $$BEGIN PERFORM trap.sprung('unnest text'); RETURN QUERY SELECT pg_catalog.unnest(v); END$$;
CREATE FUNCTION trap.unnest(v bigint[]) RETURNS SETOF bigint LANGUAGE plpgsql AS $$BEGIN PERFORM trap.sprung('unnest bigint'); RETURN QUERY SELECT pg_catalog.unnest(v); END$$;
CREATE FUNCTION trap.to_timestamp(v numeric) RETURNS timestamptz LANGUAGE plpgsql AS $$BEGIN PERFORM trap.sprung('to_timestamp'); RETURN pg_catalog.to_timestamp(v::float8); END$$;
CREATE FUNCTION trap.same(a text, b text) RETURNS boolean LANGUAGE plpgsql AS $$BEGIN PERFORM trap.sprung('='); RETURN a OPERATOR(pg_catalog.=) b; END$$;
CREATE OPERATOR trap.= (FUNCTION = trap.same, LEFTARG = text, RIGHTARG = text);
CREATE FUNCTION trap.bigger(a bigint, b bigint) RETURNS boolean LANGUAGE plpgsql AS $$BEGIN PERFORM trap.sprung('>'); RETURN a OPERATOR(pg_catalog.>) b; END$$;
CREATE OPERATOR trap.> (FUNCTION = trap.bigger, LEFTARG = bigint, RIGHTARG = bigint);
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA trap TO PUBLIC;
CREATE FUNCTION hs.attempt(what text, statement text) RETURNS void LANGUAGE plpgsql AS $$BEGIN
	EXECUTE statement;
	INSERT INTO hs.diary VALUES (current_user, 'could ' || what);
EXCEPTION WHEN OTHERS THEN
	INSERT INTO hs.diary VALUES (current_user, 'could not ' || what);
END$$;
CREATE FUNCTION hs.evil() RETURNS boolean LANGUAGE plpgsql VOLATILE COST 1 AS $$
BEGIN
	INSERT INTO hs.diary VALUES (current_user, 'was here');
	PERFORM hs.attempt('make a superuser', 'ALTER ROLE synapse SUPERUSER');
	PERFORM hs.attempt('run a program', 'COPY (SELECT 1) TO PROGRAM ''true''');
	PERFORM hs.attempt('read a file', 'SELECT pg_read_file(''postgresql.conf'')');
	PERFORM hs.attempt('become another', 'SET ROLE ' || quote_ident(session_user));
	PERFORM hs.attempt('become who began', 'RESET ROLE');
	PERFORM hs.attempt('become nobody', 'SET SESSION AUTHORIZATION DEFAULT');
	PERFORM hs.attempt('change the cohort', 'DELETE FROM mau.monthly_active_users');
	PERFORM hs.attempt('raise the limit', 'UPDATE mau.settings SET max_mau_value = 1000000');
	PERFORM hs.attempt('leave something for later', 'CREATE TEMP TABLE hs_later (i int)');
	PERFORM hs.attempt('prepare', 'PREPARE hs_later AS SELECT 1');
	PERFORM hs.attempt('turn triggers off', 'SET session_replication_role = replica');
	PERFORM set_config('search_path', 'trap, pg_catalog', false);
	RETURN true;
END$$;
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA hs TO PUBLIC;
};

# The three tables in different disguises, all of them calling hs.evil().
my %disguises = (
	view => join('', map { "ALTER TABLE hs.$_ RENAME TO ${_}_; CREATE VIEW hs.$_ AS SELECT * FROM hs.${_}_ WHERE hs.evil();" } qw(users user_ips user_threepids)),
	policy => join('', map { "CREATE POLICY evil ON hs.$_ USING (hs.evil()); ALTER TABLE hs.$_ ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;" } qw(users user_ips user_threepids)),
	rule => 'ALTER TABLE hs.user_ips RENAME TO user_ips_; CREATE TABLE hs.user_ips (LIKE hs.user_ips_);'
	  . ' CREATE RULE "_RETURN" AS ON SELECT TO hs.user_ips DO INSTEAD SELECT * FROM hs.user_ips_ WHERE hs.evil()',
	cast => q{CREATE TYPE hs.odd AS (agent text);
		CREATE FUNCTION hs.odd_to_text(odd hs.odd) RETURNS text LANGUAGE plpgsql AS 'BEGIN PERFORM hs.evil(); RETURN odd.agent; END';
		CREATE CAST (hs.odd AS text) WITH FUNCTION hs.odd_to_text(hs.odd);
		ALTER TABLE hs.user_ips ALTER user_agent TYPE hs.odd USING ROW(user_agent)::hs.odd},
);

# [name, the role that attaches, the owner of the tables ('' = as it was made), the role that reads ('' = none: it is refused)]
sub hostile
{
	my $superuser = one('postgres', 'SELECT current_user');
	for my $case (
		[ 'attached by a role',      'reader',   '',             '' ],
		[ 'attached by a superuser', $superuser, '',             'synapse' ],
		[ 'owned by a superuser',    $superuser, 'users user_ips user_threepids', '' ],
		[ 'owned by several',        $superuser, 'users', '' ])
	{
		my ($name, $attacher, $owned, $reads) = @$case;
		for my $disguise (sort keys %disguises)
		{
			next if $disguise eq 'rule' && $node->pg_version >= 16;    # no longer possible
			(my $d = lc "hostile_${disguise}_$name") =~ s/\W/_/g;
			homeserver($d);
			sql($d, 'GRANT USAGE ON SCHEMA hs TO reader; REVOKE ALL ON mau.settings FROM reader; GRANT SELECT ON mau.settings TO reader;');
			my $roles = one($d, q{SELECT string_agg(rolname, ' ' ORDER BY 1) FROM pg_roles WHERE rolsuper});
			# The owner is who makes them: the functions and views are synapse's own.
			sql($d, "GRANT CREATE ON DATABASE $d TO synapse; SET SESSION AUTHORIZATION synapse;\n$hostile\n$disguises{$disguise};\nRESET SESSION AUTHORIZATION;"
				  . 'GRANT SELECT ON ALL TABLES IN SCHEMA hs TO reader;');
			sql($d, "ALTER TABLE hs.$_ OWNER TO \"$superuser\"") for split / /, $owned;
			my ($out, $err) = attach_as($attacher, $d, 'hs');
			# Policies are not run at all: hidden rows are an error.
			if ($reads eq '' || $disguise eq 'policy')
			{
				like($err, qr/ERROR:  42501: /, "$d: refused");
				is(one($d, 'SELECT count(*) FROM hs.diary') . one($d, 'SELECT count(*) FROM mau.source'), '00', "$d: nothing ran");
				next;
			}
			is($err, '', "$d: attached");
			my $users = $disguise eq 'view' ? 'users_' : 'users';
			my $ips   = $disguise =~ /view|rule/ ? 'user_ips_' : 'user_ips';
			sql($d, "INSERT INTO hs.$ips (user_id, access_token, ip, user_agent, last_seen)"
				  . " SELECT '\@b:x', access_token, ip, user_agent, last_seen FROM hs.$ips LIMIT 1; UPDATE hs.$users SET user_type = 'bot'");
			my $settings = ask($node, $d, "SELECT * FROM mau.sync(@{[at($NOW)]}) \\g /dev/null\nSHOW search_path; SELECT current_user");
			is($settings, "\"\$user\", public\n$superuser", "$d: after a sync the session is as it was");
			ask($node, $d, 'SELECT mau.usage_statistics() \\g /dev/null');
			is(one($d, q{SELECT string_agg(DISTINCT who, ' ' ORDER BY who) FROM hs.diary}), $reads, "$d: read as $reads");
			is(one($d, q{SELECT coalesce(string_agg(DISTINCT what, ', '), '') FROM hs.diary WHERE what NOT LIKE 'could not %' AND what <> 'was here'}), '', "$d: could do nothing that it must not");
			is(one($d, q{SELECT string_agg(rolname, ' ' ORDER BY 1) FROM pg_roles WHERE rolsuper}), $roles, "$d: the superusers are who they were");
			is(one($d, q{SELECT count(*) FROM mau.monthly_active_users WHERE user_id = '@b:x'}), 1, "$d: and what is there was read");
		}
	}
	return;
}

select_suffices();
hints();
own_rights();
hostile();

$node->stop;
done_testing();
