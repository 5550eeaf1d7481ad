"""Reports that CI systems read: GitHub, GitLab, JUnit, CSV."""
