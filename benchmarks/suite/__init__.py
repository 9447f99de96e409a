"""The benchmark suite: the command is `scripts/bench`, what is measured is said in docs/performance.md."""
