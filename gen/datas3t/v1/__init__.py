"""All messages of datas3t.v1. Stubs and servicers are in the *_pb2_grpc modules."""

from datas3t.v1.access_pb2 import *
from datas3t.v1.aggregate_pb2 import *
from datas3t.v1.bucket_pb2 import *
from datas3t.v1.datarange_pb2 import *
from datas3t.v1.datas3t_pb2 import *
from datas3t.v1.errors_pb2 import *
from datas3t.v1.http_pb2 import *
from datas3t.v1.import_pb2 import *
from datas3t.v1.table_pb2 import *
from datas3t.v1.token_pb2 import *
from datas3t.v1.transfer_pb2 import *
