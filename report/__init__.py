"""Show. Records become a page, tables and a model card; every figure names its record."""
