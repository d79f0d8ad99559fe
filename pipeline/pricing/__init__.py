"""What a request costs and how large it is: the price list, the count of tokens, and how it is corrected by reports."""
