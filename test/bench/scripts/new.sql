\set n random(1000000000, 2000000000)
SELECT mau.record_activity('@new' || :n || ':' || 'example.com');
