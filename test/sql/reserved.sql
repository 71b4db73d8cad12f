-- The owners of the first max_mau_value reserved threepids hold a seat for ever and join a full server. With a reserved threepid at any
-- position a user can register there.
CREATE EXTENSION mau;
CREATE FUNCTION t(i interval) RETURNS timestamptz LANGUAGE sql IMMUTABLE -- an instant, by its distance from noon
    AS $$ SELECT (timestamp '2020-11-21 12:00:00.080' + i) AT TIME ZONE 'UTC' $$;
CREATE FUNCTION see(who text, i interval DEFAULT '0') RETURNS text LANGUAGE sql
    AS $$ SELECT mau.record_activity('@' || who || ':example.com', t(i)) $$;
UPDATE mau.settings SET limit_usage_by_mau = true, max_mau_value = 2;
INSERT INTO mau.reserved_threepids VALUES ('email', 'First@Example.com'), ('msisdn', '49123'), ('email', 'third@example.com');
SELECT medium, address FROM mau.reserved_threepids ORDER BY position;
SELECT mau.register_user('@' || name || ':example.com', t('-100 days')) FROM unnest('{first,second,third,other}'::text[]) name;
SELECT mau.add_threepid('@third:example.com', 'email', 'third@example.com'), mau.add_threepid('@other:example.com', 'email', 'other@example.com');
SELECT mau.registered_reserved_users();
-- Case does not matter in e-mail addresses, on neither side.
SELECT mau.add_threepid('@first:example.com', 'email', 'fIRST@eXAMPLE.COM'), mau.add_threepid('@second:example.com', 'msisdn', '49123');
SELECT mau.registered_reserved_users();
-- Only the owners of the first max_mau_value pairs.
UPDATE mau.settings SET max_mau_value = 1;
SELECT mau.registered_reserved_users();
UPDATE mau.settings SET max_mau_value = 3;
SELECT mau.registered_reserved_users();
UPDATE mau.settings SET max_mau_value = 0;
SELECT mau.registered_reserved_users();
UPDATE mau.settings SET max_mau_value = 2;
-- The order is that of position, not of address; it can be changed.
UPDATE mau.reserved_threepids SET position = -1 WHERE address = 'third@example.com';
SELECT mau.registered_reserved_users();
UPDATE mau.reserved_threepids SET position = 100 WHERE address = 'third@example.com';
SELECT mau.registered_reserved_users();
-- One who owns two pairs is one user.
SELECT mau.add_threepid('@first:example.com', 'msisdn', '49123');
SELECT mau.registered_reserved_users();
SELECT mau.add_threepid('@second:example.com', 'msisdn', '49123');
-- Taken away, and only by naming the owner.
SELECT mau.remove_threepid('@first:example.com', 'msisdn', '49123'), mau.remove_threepid('@second:example.com', 'email', '49123'),
       mau.remove_threepid('@second:example.com', 'msisdn', '49123'), mau.remove_threepid('@second:example.com', 'msisdn', '49123'),
       mau.remove_threepid('@first:example.com', 'email', 'FIRST@example.com');
SELECT mau.registered_reserved_users();
SELECT mau.add_threepid('@first:example.com', 'email', 'first@example.com'), mau.add_threepid('@second:example.com', 'msisdn', '49123');

-- A registered reserved user has a seat on a full server: joins without taking another's.
SELECT see('a'), see('b'), see('c');
SELECT see('first'), see('third');
SELECT mau.monthly_active_count(t('0'));
SELECT mau.check_auth_blocking('@first:example.com', at => t('0')) IS NULL AS member,
       mau.check_auth_blocking('@second:example.com', at => t('0')) IS NULL AS reserved_without_a_row,
       mau.check_auth_blocking('@third:example.com', at => t('0')) IS NULL AS reserved_without_a_seat;
-- For ever: counts and is admitted long after 30 days; its last sighting moves nevertheless.
SELECT mau.monthly_active_count(t('720 h')), mau.monthly_active_count(t('720 h 1 ms')), mau.monthly_active_count(t('10000 h'));
SELECT * FROM mau.monthly_active_count_by_service(t('10000 h'));
SELECT mau.check_auth_blocking('@first:example.com', at => t('10000 h')) IS NULL AS open;
-- Nor does another get its seat, however old its row.
UPDATE mau.settings SET max_mau_value = 1;
SELECT see('c', '9000 h'), mau.check_auth_blocking('@c:example.com', at => t('9000 h')) IS NULL AS open;
UPDATE mau.settings SET max_mau_value = 2;
SELECT see('first', '10000 h');
SELECT mau.last_seen('@first:example.com') - t('10000 h') AS seen;
-- The seat of a reserved user counts against the maximum of the others.
SELECT see('c', '10000 h'), see('d', '10000 h');
SELECT mau.monthly_active_count(t('10000 h'));
-- A support user never joins, reserved or not.
SELECT mau.register_user('@second:example.com', t('0'), user_type => 'support');
SELECT see('second', '10000 h');
SELECT users FROM mau.reap(t('10000 h')) WHERE what = 'seated';
-- A reserved appservice user holds a row, but is not counted.
TRUNCATE mau.monthly_active_users;
SELECT mau.register_user('@irc_x:example.com', t('0'), appservice_id => 'irc'), mau.add_threepid('@irc_x:example.com', 'msisdn', '49123');
SELECT users FROM mau.reap(t('0')) WHERE what = 'seated';
SELECT * FROM mau.monthly_active_count_by_service(t('10000 h'));
SELECT mau.monthly_active_count(t('10000 h'));

-- Registration with a reserved threepid, in any case, at any position, while the server is full.
SELECT see('a'), see('b');
SELECT count(*) FROM mau.monthly_active_users WHERE service = 'native';
SELECT address, mau.check_auth_blocking(medium => medium, address => address, at => t('0')) IS NULL AS open
FROM (VALUES ('email', 'first@example.com'), ('email', 'FIRST@EXAMPLE.COM'), ('email', 'third@example.com'), ('msisdn', '49123'),
    ('email', '49123'), ('msisdn', 'first@example.com'), ('msisdn', '4912'), ('email', 'first@example.co')) v(medium, address);
-- The addresses of other media are compared as they are.
INSERT INTO mau.reserved_threepids VALUES ('other', 'Case');
SELECT mau.check_auth_blocking(medium => 'other', address => 'Case', at => t('0')) IS NULL AS same,
       mau.check_auth_blocking(medium => 'other', address => 'case', at => t('0')) IS NULL AS other;
-- Case in other scripts: caseless matching of Unicode, chapter 3.13. Each row is one address in two spellings.
SELECT mau.fold_address('email', a) = mau.fold_address('email', b) AS same, a, b FROM (VALUES
    ('JÖRG@EXAMPLE.COM', 'jörg@example.com'), ('élodie@example.com', 'ÉLODIE@example.com'), ('ИВАН@пример.рф', 'иван@ПРИМЕР.РФ'),
    ('ΝΙΚΟΣ@example.gr', 'νικος@example.gr'), ('ΝΙΚΟΣ.ΠΑΠΑΣ@example.gr', 'νικος.παπας@example.gr'),
    ('STRASSE@example.com', 'straße@example.com'), ('STRAẞE@example.com', 'straße@example.com'), ('ǅ@example.com', 'ǆ@example.com')) v(a, b);
SELECT mau.fold_address('email', a) = mau.fold_address('email', b) AS same, a, b FROM (VALUES
    ('jörg@example.com', 'jorg@example.com'), ('a@example.com', 'а@example.com' /* Cyrillic */), ('a@example.com', 'ａ@example.com')) v(a, b);
TRUNCATE mau.reserved_threepids;
INSERT INTO mau.reserved_threepids VALUES ('email', 'JÖRG@Example.com');
SELECT mau.check_auth_blocking(medium => 'email', address => 'jörg@example.com', at => t('0')) IS NULL AS open;
SELECT mau.register_user('@joerg:example.com', t('0'), medium => 'email', address => 'Jörg@example.com');
SELECT mau.registered_reserved_users();
-- A registration time ahead of the clock is no sighting ahead of it.
SELECT mau.register_user('@early:x', now() + interval '100 days', medium => 'email', address => 'JÖRG@example.com');
SELECT "timestamp" <= extract(epoch FROM now()) * 1000 AS is_of_now FROM mau.monthly_active_users WHERE user_id = '@early:x';
