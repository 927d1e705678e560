"""`atommem plan`: what a recipe needs of a cluster, and how long it takes there. Formulas: docs/plan.md."""
