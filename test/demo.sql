CREATE EXTENSION mau;
SELECT mau.monthly_active_count(), count(*) FROM users;
