"""What a person is owed about their data: to see what there is, to get a copy, to object, to have it erased."""
