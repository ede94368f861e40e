"""A desk behind the WhatsApp Cloud API: FastAPI, AsyncSession, PostgreSQL."""
