"""FHIR R4 and the profiles of MHD: what a resource has to be, and what is answered where it is not."""
