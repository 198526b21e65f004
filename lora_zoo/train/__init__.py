"""How everything that the zoo ships was made: one resumable command each, see `python -m lora_zoo.train --help`."""
