"""How fast LLMux is: each figure beside the limit of this machine, or beside a peer, measured in the same run."""
