"""What only the metadata store on MongoDB needs: see `registry/metadata_store_mongodb.py`."""
