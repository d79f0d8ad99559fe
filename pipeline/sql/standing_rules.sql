-- What the shop rules for all customers at this moment, the newest first.
SELECT standing.product_id, product.name, standing.rule, standing.reason, standing.since, standing.until,
       standing.ordered_by || ' (as ' || standing.login || ')' AS ordered_by
FROM standing_rules AS standing
LEFT JOIN products AS product USING (product_id)
ORDER BY standing.since DESC, standing.rule_id DESC
