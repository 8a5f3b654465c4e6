"""The second generation of mini, in preparation: pictures that look like photographs, and answers that advise."""
