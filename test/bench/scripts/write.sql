\set n random(0, :members - 1)
SELECT mau.record_activity('@user' || :n || ':' || 'example.com', clock_timestamp(), 'Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0');
