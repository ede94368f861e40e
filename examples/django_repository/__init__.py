"""A repository over Django's ORM: the port written for a store that ticketrouter has never heard of."""
