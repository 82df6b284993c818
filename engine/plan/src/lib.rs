//! Pipeline YAML with spans, checked against the catalog, compiled to a Plan that cannot be wrong.
