"""Page-table entries of the compiled formats, bit by bit, named as their specifications print them."""
