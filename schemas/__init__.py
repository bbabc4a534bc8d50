"""Shapes that are declared, not coded: XSD, WSDL, SQL, code sets, rendering dictionaries."""
