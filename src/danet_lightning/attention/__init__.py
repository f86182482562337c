"""`attention`: pages and figures of what a network attends to."""
