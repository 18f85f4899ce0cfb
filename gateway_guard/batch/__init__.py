"""The analyst's batch job: histories that no single memory holds are reduced by a query engine, and concluded on by the analyst's own code."""
