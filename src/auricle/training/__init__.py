"""Training: data, augmentation, losses and one loop; a recipe says everything that may vary.

`recipe` holds the schema, `loop` the loop. Knows no command line and no server.
"""
