\set n random(0, :members - 1)
SELECT mau.record_activity('@user' || :n || ':' || 'example.com');
