-- What a build works with, in its own session: gone when that ends. Arrays lie uncompressed, for each is read often.
CREATE TEMPORARY TABLE recstream_numbers (
    number integer PRIMARY KEY,
    product_id text NOT NULL
);
CREATE TEMPORARY TABLE recstream_baskets (
    basket integer PRIMARY KEY,
    share double precision NOT NULL,
    numbers integer[] NOT NULL
);
ALTER TABLE recstream_baskets ALTER COLUMN numbers SET STORAGE EXTERNAL;
CREATE TEMPORARY TABLE recstream_buyers (
    number integer PRIMARY KEY,
    baskets integer[] NOT NULL
);
ALTER TABLE recstream_buyers ALTER COLUMN baskets SET STORAGE EXTERNAL;
CREATE TEMPORARY TABLE recstream_words (
    word text NOT NULL,
    number integer NOT NULL,
    is_newcomer boolean NOT NULL,
    buyers integer NOT NULL
)
