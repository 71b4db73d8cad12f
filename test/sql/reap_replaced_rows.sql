-- Reap looks up users whose rows have dead versions that are still in the index. The index scan's notes of them live as long
-- as the scan, although other memory (here of a long column) is allocated and freed in between.
CREATE EXTENSION mau;

SELECT count(mau.record_activity('@user' || n || ':example.com', timestamptz '2025-01-01 12:00+00' + n * interval '1 second'))
FROM generate_series(1, 300) n;

ALTER TABLE mau.users ADD COLUMN note text;
UPDATE mau.users SET note = repeat('x', 30000);

-- A new session knows that the old versions are dead to all.
\c -
SELECT * FROM mau.reap('2025-03-01 12:00+00');
SELECT count(*), count(last_seen), min(last_seen), max(last_seen) FROM mau.users;
SELECT count(*) FROM mau.monthly_active_users;
