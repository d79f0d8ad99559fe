-- How brands and categories are written in the catalog.
SELECT DISTINCT brand AS name FROM products WHERE brand IS NOT NULL
UNION
SELECT DISTINCT category FROM products WHERE category IS NOT NULL
