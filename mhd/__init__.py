"""MHD: the same dossier for FHIR apps (IHE ITI Mobile access to Health Documents 4.2.4, FHIR R4 4.0.1)."""
