"""What only the metadata store on SQLite needs: see `registry/metadata_store_sqlite.py`."""
