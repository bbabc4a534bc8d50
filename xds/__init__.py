"""The shared language of XDS.b: metadata, ebXML, SOAP, MTOM, queries, errors. Pure: no I/O."""
