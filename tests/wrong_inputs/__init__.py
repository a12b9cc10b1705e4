"""Wrong inputs of every public entry point, each with the sentence that refuses it."""
