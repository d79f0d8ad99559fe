"""The demo shop: the example of the article behind recstream, and a generated shop around it."""

from pipeline.demo_shop.article import ARTICLE_CUSTOMER_ID, ARTICLE_PRODUCTS, ARTICLE_PROFILE_TEXT
from pipeline.demo_shop.populate import DemoShopReport, populate

__all__ = [
    "ARTICLE_CUSTOMER_ID",
    "ARTICLE_PRODUCTS",
    "ARTICLE_PROFILE_TEXT",
    "DemoShopReport",
    "populate",
]
