"""The kinds of picture, one module each: ``compute`` returns the numbers, ``draw`` draws them."""
