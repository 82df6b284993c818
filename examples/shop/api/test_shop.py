"""The API's tests; the image's build runs them."""

import tempfile
import unittest

from shop import create_app


class Shop(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.client = create_app(f"{folder.name}/shop.db").test_client()

    def order(self, product, quantity):
        return self.client.post("/orders", json={"product": product, "quantity": quantity})

    def stock(self, product):
        return {row["id"]: row["stock"] for row in self.client.get("/products").json}[product]

    def test_an_order_takes_from_the_stock_and_is_shipped_once(self):
        placed = self.order("rope", 2)
        self.assertEqual((placed.status_code, placed.json), (201, {"id": 1, "status": "placed"}))
        self.assertEqual(self.stock("rope"), 10)
        self.assertEqual(self.client.post("/orders/1/ship").status_code, 200)
        self.assertEqual(self.client.post("/orders/1/ship").status_code, 409)
        self.assertEqual(self.client.get("/orders?status=placed").json, [])

    def test_what_is_not_there_cannot_be_ordered(self):
        for product, quantity, status in [("block", 4, 409), ("anchor", 1, 404), ("rope", 0, 400)]:
            self.assertEqual(self.order(product, quantity).status_code, status, product)
        self.assertEqual(self.stock("block"), 3)


if __name__ == "__main__":
    unittest.main()
