"""Updates: what the channel says, staging and checking it all, the other slot, the way back."""
