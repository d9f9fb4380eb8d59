"""The game "What do you see?" (Fig. 4(a)): its page, and the score of its answers without torch."""
