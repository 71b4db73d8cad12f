\set n random(0, :members - 1)
SELECT mau.admit('@user' || :n || ':' || 'example.com');
