"""The scoreboard of structures: models of many families, tools that prune them, and how their results are judged."""
