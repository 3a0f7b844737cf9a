"""The harness: a benchmark (``spec``) becomes cells (``cell``), cells are measured (``run``) and kept (``store``)."""
