"""What developers of other programs read: a quickstart, the contract, and a page about each problem."""
