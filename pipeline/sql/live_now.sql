-- The moment of this transaction, by the server's clock.
SELECT now()
