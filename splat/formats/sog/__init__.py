"""PlayCanvas SOG: bundle, folder and streamed levels of detail."""
