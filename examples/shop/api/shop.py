"""The shop's API: products with a stock, and orders that take from it."""

import os
import signal
import sqlite3
import sys
from contextlib import closing

from flask import Flask, jsonify, request

SCHEMA = """
CREATE TABLE IF NOT EXISTS products (id TEXT PRIMARY KEY, name TEXT, cents INTEGER, stock INTEGER);
CREATE TABLE IF NOT EXISTS orders (
    id INTEGER PRIMARY KEY, product TEXT REFERENCES products, quantity INTEGER, status TEXT);
INSERT OR IGNORE INTO products VALUES
    ('rope', 'Mooring rope, 20 m', 4900, 12),
    ('cleat', 'Bronze cleat', 1850, 40),
    ('block', 'Turning block', 3200, 3);
"""


def create_app(database: str) -> Flask:
    app = Flask("shop")

    def connect() -> sqlite3.Connection:
        connection = sqlite3.connect(database, timeout=5)
        connection.row_factory = sqlite3.Row
        return connection

    with closing(connect()) as db:
        db.executescript(SCHEMA)

    def rows(query: str, *values) -> list[dict]:
        with closing(connect()) as db:
            return [dict(row) for row in db.execute(query, values)]

    def refuse(status: int, message: str):
        return jsonify(error=message), status

    @app.get("/healthz")
    def healthz():
        return jsonify(status="ok", version=os.environ.get("SHOP_VERSION", "dev"))

    @app.get("/products")
    def products():
        return jsonify(rows("SELECT * FROM products ORDER BY id"))

    @app.get("/orders")
    def orders():
        status = request.args.get("status", "%")
        return jsonify(rows("SELECT * FROM orders WHERE status LIKE ? ORDER BY id", status))

    @app.post("/orders")
    def order():
        body = request.get_json(silent=True)
        body = body if isinstance(body, dict) else {}
        product, quantity = body.get("product"), body.get("quantity", 1)
        if not isinstance(product, str) or type(quantity) is not int or not 0 < quantity <= 100:
            return refuse(400, "say {product: a product's id, quantity: 1 to 100}")
        with closing(connect()) as db, db:
            # One statement checks and takes, so two orders never share the last piece.
            taken = db.execute(
                "UPDATE products SET stock = stock - ? WHERE id = ? AND stock >= ?",
                (quantity, product, quantity),
            )
            if taken.rowcount == 0:
                known = db.execute("SELECT 1 FROM products WHERE id = ?", (product,)).fetchone()
                return refuse(409, "not enough in stock") if known else refuse(404, "no such product")
            made = db.execute(
                "INSERT INTO orders (product, quantity, status) VALUES (?, ?, 'placed')",
                (product, quantity),
            )
            return jsonify(id=made.lastrowid, status="placed"), 201

    @app.post("/orders/<int:order_id>/ship")
    def ship(order_id: int):
        with closing(connect()) as db, db:
            changed = db.execute(
                "UPDATE orders SET status = 'shipped' WHERE id = ? AND status = 'placed'", (order_id,)
            )
        if changed.rowcount == 0:
            return refuse(409, "there is no such order to ship")
        return jsonify(id=order_id, status="shipped")

    return app


def main() -> None:
    from waitress import serve

    # The first process of a container ignores the signal unless it says otherwise.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    app = create_app(os.environ.get("SHOP_DATABASE", "/var/lib/shop/shop.db"))
    serve(app, host="0.0.0.0", port=int(os.environ.get("SHOP_PORT", "8080")), threads=4)


if __name__ == "__main__":
    main()
