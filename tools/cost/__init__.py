"""Steps that are not compiled: bills and costs of networks by several recipes."""
