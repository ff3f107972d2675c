"""Files: names in collections, their versions, and the bytes behind them."""
