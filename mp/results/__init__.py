"""`inpath results`: stored answers listed, shown, exported, drawn and pruned."""
