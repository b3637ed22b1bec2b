"""Where indicators get their readings from by themselves: exchange rates, repositories, web traffic, once an hour."""
