CREATE EXTENSION mau;
SELECT mau.monthly_active_count();
DROP EXTENSION mau CASCADE;
