"""Workers are killed and stopped, servers go away and come back; a ledger of the handlers' own says whether it showed."""
